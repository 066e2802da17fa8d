"""What users ask beside the seven verbs: `doctor`, `encode`, `export`, and canonical files for other programs."""
