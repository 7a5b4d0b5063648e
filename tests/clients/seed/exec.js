const response = await fetch(
  "http://localhost:7423/api/v1/sandboxes/sb_a1b2c3d4/exec",
  {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "X-API-Key": "sk_test_YOUR_API_KEY",
    },
    body: JSON.stringify({
      command: 'python3 -c "print(40 + 2)"',
      timeout: "10s",
    }),
  },
);

if (!response.ok) {
  throw new Error(await response.text());
}

console.log(await response.json());
