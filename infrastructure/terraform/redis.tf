# Redis wakes, PostgreSQL remembers: what lies here may vanish at any time (docs/adr, ARCHITECTURE), so there are no
# snapshots unless asked for, and the replica is for being back at once, not for keeping.
#
# AUTH: the provider has no write-only argument for the token, and what it is given lies in the state. So the group is
# made without one, behind TLS and a security group that lets only the tasks in, and deploy-prod.sh sets the token
# (REDIS_PASSWORD) before the first task starts: `aws elasticache modify-replication-group --auth-token ...
# --auth-token-update-strategy ROTATE`, then SET. Terraform does not look at it again.

locals {
  redis_url_host = var.redis ? aws_elasticache_replication_group.main[0].primary_endpoint_address : "none.invalid"
  redis_port     = 6379
}

resource "aws_elasticache_subnet_group" "main" {
  count = var.redis ? 1 : 0

  name       = local.name
  subnet_ids = [for subnet in aws_subnet.data : subnet.id]
}

resource "aws_elasticache_parameter_group" "main" {
  count = var.redis ? 1 : 0

  name        = "${local.name}-${local.redis_family}"
  family      = local.redis_family
  description = "${local.name}: what has a time to live goes first, as in docker-compose.yml"

  parameter {
    name  = "maxmemory-policy"
    value = "volatile-lru"
  }

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  redis_family  = var.redis_engine == "valkey" ? "valkey8" : "redis7"
  redis_version = var.redis_engine == "valkey" ? "8.0" : "7.1"
}

resource "aws_elasticache_replication_group" "main" {
  #checkov:skip=CKV_AWS_31:the AUTH token is set by deploy-prod.sh, so that it is not in the state (see above)
  #checkov:skip=CKV2_AWS_50:failover by redis_nodes, which is 2 unless a small environment says otherwise
  count = var.redis ? 1 : 0

  replication_group_id = local.name
  description          = "${local.name}: shared results, latest prices, rate limits"

  engine               = var.redis_engine
  engine_version       = local.redis_version
  node_type            = var.redis_node_type
  num_cache_clusters   = var.redis_nodes
  parameter_group_name = aws_elasticache_parameter_group.main[0].name
  port                 = local.redis_port

  automatic_failover_enabled = var.redis_nodes > 1
  multi_az_enabled           = var.redis_nodes > 1
  subnet_group_name          = aws_elasticache_subnet_group.main[0].name
  security_group_ids         = [aws_security_group.redis.id]

  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.data.arn

  auto_minor_version_upgrade = true
  maintenance_window         = "sun:10:30-sun:11:30"
  snapshot_retention_limit   = var.redis_snapshot_days
  snapshot_window            = "08:00-09:00"

  log_delivery_configuration {
    destination      = aws_cloudwatch_log_group.redis.name
    destination_type = "cloudwatch-logs"
    log_format       = "json"
    log_type         = "slow-log"
  }

  lifecycle {
    ignore_changes = [auth_token, auth_token_update_strategy]
  }
}
