# Five bodies under gravity: floats in attributes of lists.
def work():
    bodies = [
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 39.47],
        [[4.84, -1.16, -0.10], [0.60, 2.81, -0.02], 0.037],
        [[8.34, 4.12, -0.40], [-1.01, 1.82, 0.008], 0.011],
        [[12.89, -15.11, -0.22], [1.08, 0.86, -0.01], 0.0017],
        [[15.37, -25.91, 0.17], [0.97, 0.59, -0.03], 0.0020],
    ]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1 :]]
    for _ in range(15000):
        for (place, speed, mass), (other_place, other_speed, other_mass) in pairs:
            dx = place[0] - other_place[0]
            dy = place[1] - other_place[1]
            dz = place[2] - other_place[2]
            pull = 0.001 * (dx * dx + dy * dy + dz * dz) ** -1.5
            speed[0] -= dx * other_mass * pull
            speed[1] -= dy * other_mass * pull
            speed[2] -= dz * other_mass * pull
            other_speed[0] += dx * mass * pull
            other_speed[1] += dy * mass * pull
            other_speed[2] += dz * mass * pull
        for place, speed, _ in bodies:
            place[0] += 0.001 * speed[0]
            place[1] += 0.001 * speed[1]
            place[2] += 0.001 * speed[2]
    return round(sum(place[0] for place, _, _ in bodies), 6)
