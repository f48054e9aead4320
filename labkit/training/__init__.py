"""HOW a model learns: data generation, tokenizer, pretraining. Needs torch (extra `train`)."""
