"""What several evaluations need: what they are given, splits, the logistic probe, words of protocols."""
