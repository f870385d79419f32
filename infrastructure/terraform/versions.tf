terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.0"
    }
  }

  # bucket, key and region come by -backend-config (README.md); the lock is an object beside the state, no table
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
