"""AsyncAPI: the document of what services publish and listen to."""
