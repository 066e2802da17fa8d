"""Foreign files, touched with care: nothing in them is trusted, run, or allowed to fill the memory or the disk."""
