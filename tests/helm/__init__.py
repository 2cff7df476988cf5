"""The Helm chart: what it renders, and what it refuses. Helm is fetched by `.ci/deps`."""
