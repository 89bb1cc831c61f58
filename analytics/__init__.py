"""Questions and their answers: latency, SLOs, drift, cost, and the fleet simulator. SQL files and pure maths."""
