"""Sources whose content is known (shapes, colours, levels, motion), and what is seen and heard of a video."""
