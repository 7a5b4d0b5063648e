curl -sS -X POST http://localhost:7423/api/v1/sandboxes \
  -H "Content-Type: application/json" \
  -H "X-API-Key: sk_test_YOUR_API_KEY" \
  -H "X-User-ID: user_123" \
  -d '{
    "image": "python:3.12",
    "provider": "docker",
    "memory_mb": 512,
    "vcpus": 1,
    "ttl": "10m",
    "metadata": {"purpose": "quickstart"}
  }'
