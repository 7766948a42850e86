"""HTTP: FastAPI carries the services' routes, uvicorn serves them."""
