"""Our own files: reading and writing (`store`), what is written down about each (`records`), whether they still are
what they were (`provenance`), where a number comes from (`trace`), what may go (`tidy`)."""
