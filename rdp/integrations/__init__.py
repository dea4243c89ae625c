"""Callbacks for other people's trainers: PyTorch Lightning and Hugging Face Trainer (the extra ``integrations``)."""
