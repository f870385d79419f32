locals {
  name = "${var.project}-${var.environment}"

  tags = merge(var.tags, {
    Project     = var.project
    Environment = var.environment
    ManagedBy   = "terraform"
  })

  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  # real and invented prices never share a database, and production has no invented ones
  market_database   = "ots"
  accounts_database = "ots_accounts"

  # who calls whom; security groups, names to find and keys to sign with all follow this
  calls = {
    gateway   = ["cache", "ingestion", "analytics", "signals"]
    cache     = ["ingestion", "analytics"]
    analytics = ["cache"]
    signals   = ["analytics"]

    "signals-worker" = ["analytics"]
  }

  # the names that the services know each other by, where they are not the tasks'
  service_names = { ingestion = "data-ingestion" }

  # how long one request may take, through everything: an import waits 300 s for its run, after 60 s of settling
  longest_request_s = 370
  # Fargate kills after 120 s; the load balancer has already waited longest_request_s for what was under way
  stop_timeout_s = 120
  drain_s        = 110
}
