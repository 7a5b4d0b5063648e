# Documents to text and back: the C part of the json module.
import json


def work():
    document = {
        "users": [
            {"id": n, "name": f"user {n}", "tags": ["a", "b", str(n)], "ratio": n / 7, "active": n % 2 == 0, "none": None}
            for n in range(500)
        ]
    }
    size = 0
    for _ in range(30):
        text = json.dumps(document)
        size += len(text)
        document = json.loads(text)
    return size
