"""Search for good settings: trials on few points first, the better third on more, the last on all."""
