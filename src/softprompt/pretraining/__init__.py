"""Small backbones from raw text: tokenizer, objectives, architectures, and the trainer that joins them."""
