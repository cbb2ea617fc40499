"""The processes of a pod: joining them, and a roll call that names who is missing."""
