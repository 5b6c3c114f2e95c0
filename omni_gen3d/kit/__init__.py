"""The extension: omni_gen3d inside Omniverse Kit and Isaac Sim. Imports neither torch nor numpy."""
