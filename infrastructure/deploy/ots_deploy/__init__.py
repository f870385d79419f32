"""``./deploy-prod.sh``: AI-OTS on AWS, by the command lines of terraform, docker and aws. Standard library only."""
