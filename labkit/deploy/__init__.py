"""How it gets out: files rendered from typed settings, checks that run, a cluster of edge nodes, what it costs."""
