"""LoRA adapters as Hugging Face's PEFT writes and reads them: adapter_config.json and adapter_model.safetensors."""
