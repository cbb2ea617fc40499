"""Small trainable changes of a model whose own parameters stay, one file for each kind."""
