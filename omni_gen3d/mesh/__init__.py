"""From splats to something solid: levelling, the collision proxy, free space and spawn poses."""
