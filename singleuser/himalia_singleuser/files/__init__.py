"""Raw files: downloads, images in notebooks, the HTML viewer."""
