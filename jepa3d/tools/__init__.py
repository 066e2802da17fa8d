"""What users ask beside the seven verbs: `doctor`, `encode`, `export`, `import`, canonical files for other programs."""
