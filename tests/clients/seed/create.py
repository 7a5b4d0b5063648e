import requests

response = requests.post(
    "http://localhost:7423/api/v1/sandboxes",
    headers={
        "Content-Type": "application/json",
        "X-API-Key": "sk_test_YOUR_API_KEY",
        "X-User-ID": "user_123",
    },
    json={
        "image": "python:3.12",
        "provider": "docker",
        "memory_mb": 512,
        "vcpus": 1,
        "ttl": "10m",
        "metadata": {"purpose": "quickstart"},
    },
    timeout=30,
)
response.raise_for_status()
print(response.json()["id"])
