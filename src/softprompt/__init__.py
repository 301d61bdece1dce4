"""Train, measure, inspect and serve soft prompts on frozen language models."""
