"""What users ask beside the seven verbs: `doctor`, `encode`, `export`, `import`, and canonical files for other programs."""
