"""What several data sets share: how points become canonical, audits of lists, ModelNet40, the procedural shapes."""
