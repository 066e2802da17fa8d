"""What several data sets share, and the procedural shapes."""
