"""Pure functions: geometry, augmentation, masks, schedules, scores."""
