"""Python source of a network: plain PyTorch, and the layout that Hugging Face reads."""
