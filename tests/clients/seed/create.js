const response = await fetch("http://localhost:7423/api/v1/sandboxes", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",
    "X-API-Key": "sk_test_YOUR_API_KEY",
    "X-User-ID": "user_123",
  },
  body: JSON.stringify({
    image: "python:3.12",
    provider: "docker",
    memory_mb: 512,
    vcpus: 1,
    ttl: "10m",
    metadata: { purpose: "quickstart" },
  }),
});

if (!response.ok) {
  throw new Error(await response.text());
}

const sandbox = await response.json();
console.log(sandbox.id);
