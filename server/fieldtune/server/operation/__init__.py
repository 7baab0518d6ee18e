"""What happens on the devices after a study: deployment, rollback, watching."""
