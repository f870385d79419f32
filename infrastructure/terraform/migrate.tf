# What docker-compose.yml's `migrate` does: roles, databases, schema, the first user; then it ends. deploy-prod.sh runs it
# before it moves the services. It alone is given the administrator's password.

locals {
  migrate_environment = {
    OTS_ENVIRONMENT    = "production"
    MARKET_SOURCE      = "databento"
    MARKET_CALENDAR    = "xnys"
    MARKET_DATABASE    = local.market_database
    ADMIN_DATABASE_URL = "postgresql://${local.database_master_user}@${local.database_host}:${local.database_port}/postgres"
    DATABASE_URL       = "postgresql://ots_accounts@${local.database_host}:${local.database_port}/${local.accounts_database}"
    PGSSLMODE          = "verify-full"
    PGSSLROOTCERT      = local.database_ca_file
  }

  migrate_secrets = merge(
    { for name in [
      "DB_PASSWORD_OWNER", "DB_PASSWORD_READER", "DB_PASSWORD_SNAPSHOTS", "DB_PASSWORD_SIGNALS", "DB_PASSWORD_ACCOUNTS",
      "DB_PASSWORD_GRAFANA", "DB_PASSWORD_MONITOR", "ADMIN_PASSWORD",
    ] : name => name },
    local.ca_secrets,
  )
}

resource "aws_ecs_task_definition" "migrate" {
  family                   = "${local.name}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.size.migrate.cpu
  memory                   = local.size.migrate.memory
  execution_role_arn       = aws_iam_role.execution["migrate"].arn
  task_role_arn            = aws_iam_role.task["migrate"].arn
  skip_destroy             = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  dynamic "volume" {
    for_each = toset(["tmp", "metrics"])

    content {
      name = volume.key
    }
  }

  container_definitions = jsonencode([{
    name       = "migrate"
    image      = local.images.gateway
    essential  = true
    entryPoint = local.entry_point
    # libpq reads PGPASSWORD; each of the two has its own
    command = [
      "sh", "-c",
      join(" && ", [
        "PGPASSWORD=\"$MASTER_PASSWORD\" python -m ots_common.provision",
        "PGPASSWORD=\"$DB_PASSWORD_ACCOUNTS\" exec python -m ots_gateway.accounts ensure-admin --reset-password",
      ]),
    ]
    user        = "10001:10001"
    environment = [for key, value in local.migrate_environment : { name = key, value = value }]
    secrets = concat(
      [for key, secret in local.migrate_secrets : { name = key, valueFrom = aws_secretsmanager_secret.platform[secret].arn }],
      [{ name = "MASTER_PASSWORD", valueFrom = "${local.database_master_secret_arn}:password::" }],
    )

    readonlyRootFilesystem = true
    linuxParameters        = { initProcessEnabled = true, capabilities = { add = [], drop = ["ALL"] } }
    portMappings           = []
    mountPoints = [
      { sourceVolume = "tmp", containerPath = "/tmp", readOnly = false },
      { sourceVolume = "metrics", containerPath = "/run/ots/metrics", readOnly = false },
    ]
    volumesFrom    = []
    systemControls = []
    stopTimeout    = 120

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.service["migrate"].name
        awslogs-region        = var.region
        awslogs-stream-prefix = "task"
      }
    }
  }])
}
