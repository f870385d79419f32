# The secrets' places, without values: deploy-prod.sh writes each value once, straight to Secrets Manager, so that neither
# Terraform's state nor a plan ever holds one. Names as in .env.example.

locals {
  secret_names = {
    JWT_SIGNING_KEY       = "seals the keys that sign users' tokens"
    METRICS_TOKEN         = "whoever reads the gateway's /metrics sends it"
    ADMIN_PASSWORD        = "the platform's user admin"
    REDIS_PASSWORD        = "ElastiCache's AUTH token: 16 to 128 characters of A-Z a-z 0-9 - _"
    DATABENTO_API_KEY     = "the vendor's; with vendor_key = false it needs no value"
    DATABASE_CA           = "no secret: the authorities that sign the database's certificate, as PEM"
    DB_PASSWORD_OWNER     = "PostgreSQL's role ots"
    DB_PASSWORD_READER    = "PostgreSQL's role ots_reader"
    DB_PASSWORD_SNAPSHOTS = "PostgreSQL's role ots_snapshots"
    DB_PASSWORD_ACCOUNTS  = "PostgreSQL's role ots_accounts"
    DB_PASSWORD_GRAFANA   = "PostgreSQL's role ots_grafana"
    DB_PASSWORD_MONITOR   = "PostgreSQL's role ots_monitor"
    DB_PASSWORD_SIGNALS   = "PostgreSQL's role ots_signals"
    KEY_GATEWAY_CACHE     = "the gateway calls cache with it"
    KEY_GATEWAY_INGESTION = "the gateway calls ingestion with it"
    KEY_GATEWAY_ANALYTICS = "the gateway calls analytics with it"
    KEY_GATEWAY_SIGNALS   = "the gateway calls signals with it"
    KEY_SIGNALS_ANALYTICS = "signals calls analytics with it"
    KEY_ANALYTICS_CACHE   = "analytics calls cache with it"
    KEY_CACHE_ANALYTICS   = "cache calls analytics with it"
    KEY_CACHE_INGESTION   = "cache calls ingestion with it"
  }
}

resource "aws_secretsmanager_secret" "platform" {
  #checkov:skip=CKV2_AWS_57:rotation is a command (docs/DEPLOYMENT_GUIDE.md), because a new value must reach both sides of a key together, which a rotation Lambda of one secret cannot do
  for_each = local.secret_names

  name                    = "${local.name}/${each.key}"
  description             = each.value
  kms_key_id              = aws_kms_key.secrets.arn
  recovery_window_in_days = var.secrets_recovery_days
}
