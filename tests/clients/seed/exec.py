import requests

response = requests.post(
    "http://localhost:7423/api/v1/sandboxes/sb_a1b2c3d4/exec",
    headers={
        "Content-Type": "application/json",
        "X-API-Key": "sk_test_YOUR_API_KEY",
    },
    json={
        "command": 'python3 -c "print(40 + 2)"',
        "timeout": "10s",
    },
    timeout=30,
)
response.raise_for_status()
print(response.json()["stdout"])
