"""The analyzers, one per file and nothing else: gradscope.catalogue finds them by walking this folder."""
