# Three keys, by who must be able to read: data (database, Redis, files, the spool), secrets, and logs with alerts.
# Each rotates by itself once a year; a deleted key can be brought back for 30 days.

locals {
  # the account's administrators rule each key through IAM; without this nobody could ever change a key's policy
  kms_root_statement = {
    Sid       = "AccountAdministers"
    Effect    = "Allow"
    Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
    Action    = "kms:*"
    Resource  = "*"
  }
}

resource "aws_kms_key" "data" {
  description             = "${local.name}: database, Redis, files, spool"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  # no statement for anybody else: who may decrypt is in the IAM policy of each role; RDS, EFS and ElastiCache work by
  # the grants that whoever makes them gives
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [local.kms_root_statement]
  })
}

resource "aws_kms_key" "secrets" {
  description             = "${local.name}: secrets"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  # likewise; each task's execution role may decrypt its own secrets
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [local.kms_root_statement]
  })
}

resource "aws_kms_key" "logs" {
  description             = "${local.name}: logs and alerts"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      local.kms_root_statement,
      {
        Sid       = "LogsOfThisAccount"
        Effect    = "Allow"
        Principal = { Service = "logs.${var.region}.amazonaws.com" }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Condition = {
          ArnLike = {
            "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:*"
          }
        }
      },
      {
        Sid       = "AlarmsBudgetsAndEventsOfThisAccount"
        Effect    = "Allow"
        Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com", "events.rds.amazonaws.com"] }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
    ]
  })
}

resource "aws_kms_alias" "this" {
  for_each = { data = aws_kms_key.data.key_id, secrets = aws_kms_key.secrets.key_id, logs = aws_kms_key.logs.key_id }

  name          = "alias/${local.name}-${each.key}"
  target_key_id = each.value
}
