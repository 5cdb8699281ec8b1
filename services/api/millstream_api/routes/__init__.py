"""The routes: /v1 for everything new, /api for what older pages know."""
