"""How a scenario is measured: plan, order, guests at work, places, sequential tests."""
