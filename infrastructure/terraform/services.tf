# One map says everything of a service; what follows makes it. docker-compose.yml says the same of the laptop, and
# tests/infrastructure hold the two together.

locals {
  # the size in CPU units and MiB, and how many: min and max where more of them do more
  sizes = {
    gateway              = { cpu = 512, memory = 1024, count = null, min = 2, max = 8 }
    cache                = { cpu = 512, memory = 1024, count = null, min = 2, max = 6 }
    analytics            = { cpu = 1024, memory = 2048, count = null, min = 2, max = 8 }
    signals              = { cpu = 1024, memory = 2048, count = null, min = 1, max = 4 }
    ingestion            = { cpu = 1024, memory = 2048, count = 1, min = null, max = null }
    collector            = { cpu = 1024, memory = 2048, count = 1, min = null, max = null }
    backfiller           = { cpu = 1024, memory = 2048, count = 1, min = null, max = null }
    ingestion-worker     = { cpu = 1024, memory = 2048, count = 1, min = null, max = null }
    volatility-snapshots = { cpu = 1024, memory = 2048, count = 1, min = null, max = null }
    signals-worker       = { cpu = 1024, memory = 2048, count = 1, min = null, max = null }
    migrate              = { cpu = 256, memory = 512, count = 0, min = null, max = null }
  }

  # per service: what is given, else the above
  size = {
    for name, size in local.sizes : name => {
      cpu    = try(coalesce(var.tasks[name].cpu), size.cpu)
      memory = try(coalesce(var.tasks[name].memory), size.memory)
      count  = try(coalesce(var.tasks[name].count), size.count)
      min    = try(coalesce(var.tasks[name].min), size.min)
      max    = try(coalesce(var.tasks[name].max), size.max)
    }
  }

  # compose_service: its name in docker-compose.yml
  # repository:      whose image it runs
  # command:         what runs: the image's own CMD, or docker-compose.yml's command
  # port:            where it answers; null: nowhere
  # metrics_port:    where Prometheus asks it
  # process:         its connection's name in PostgreSQL, by which a worker's health is known
  # database, role, password: where it logs in, as whom, and the secret
  # spool:           whether it has the spool
  # vendor:          whether it asks Databento
  # kernels:         whether numba compiles when it starts
  # lone:            whether there is one: a new one starts after the old one ended
  # stop_s:          how long it may take to stop
  services = {
    gateway = {
      compose_service = "gateway", repository = "gateway", port = 8000, metrics_port = 8000, process = null
      command         = ["gunicorn", "--config", "python:ots_gateway.gunicorn_conf", "ots_gateway.app:create_app()"]
      database        = local.accounts_database, role = "ots_accounts", password = "DB_PASSWORD_ACCOUNTS"
      spool           = false, vendor = false, kernels = false, lone = false, stop_s = local.stop_timeout_s
      environment = {
        UPSTREAMS = jsonencode({ for callee in local.calls.gateway : lookup(local.service_names, callee, callee) => local.urls[callee] })
        DRAIN_S   = tostring(local.drain_s)
        # longer than the load balancer keeps a connection: else it sends a request into one that is being closed
        KEEPALIVE_S = tostring(local.longest_request_s + 20)
        # the load balancer stands in the public subnets, and nobody else does
        TRUSTED_PROXIES = jsonencode(values(local.public_cidrs))
        HSTS_S          = tostring(var.hsts_s)
        CORS_ORIGINS    = jsonencode(var.cors_origins)
      }
      secrets = { JWT_SIGNING_KEY = "JWT_SIGNING_KEY", METRICS_TOKEN = "METRICS_TOKEN" }
    }

    cache = {
      compose_service = "cache", repository = "cache", port = 8001, metrics_port = 8001, process = null
      command         = ["gunicorn", "--config", "python:ots_cache.gunicorn_conf", "ots_cache.app:create_app()"]
      database        = local.market_database, role = "ots_reader", password = "DB_PASSWORD_READER"
      spool           = false, vendor = false, kernels = false, lone = false, stop_s = 30
      environment = {
        UPSTREAMS = jsonencode({ for callee in local.calls.cache : lookup(local.service_names, callee, callee) => local.urls[callee] })
      }
      secrets = {}
    }

    ingestion = {
      compose_service = "ingestion", repository = "ingestion", port = 8002, metrics_port = 8002, process = null
      command         = ["env", "PROMETHEUS_MULTIPROC_DIR=/run/ots/metrics", "gunicorn", "--config", "python:ots_ingestion.gunicorn_conf", "ots_ingestion.app:create_app()"]
      database        = local.market_database, role = "ots", password = "DB_PASSWORD_OWNER"
      spool           = true, vendor = true, kernels = false, lone = false, stop_s = 30
      environment     = {}
      secrets         = local.vendor_secrets
    }

    collector = {
      compose_service = "ingestion-collector", repository = "ingestion", port = null, metrics_port = 8012, process = "collector"
      command         = ["python", "-m", "ots_ingestion", "collector"]
      database        = local.market_database, role = "ots", password = "DB_PASSWORD_OWNER"
      spool           = true, vendor = true, kernels = false, lone = true, stop_s = 30
      environment     = { COLLECTOR_METRICS_PORT = "8012" }
      secrets         = local.vendor_secrets
    }

    backfiller = {
      compose_service = "ingestion-backfiller", repository = "ingestion", port = null, metrics_port = 8013, process = "ingestion-backfiller"
      command         = ["python", "-m", "ots_ingestion", "backfiller"]
      database        = local.market_database, role = "ots", password = "DB_PASSWORD_OWNER"
      spool           = true, vendor = true, kernels = false, lone = true, stop_s = 30
      environment     = { BACKFILLER_METRICS_PORT = "8013" }
      secrets         = local.vendor_secrets
    }

    # stores what ingestion has spooled, and asks nobody outside
    ingestion-worker = {
      compose_service = "ingestion-worker", repository = "ingestion", port = null, metrics_port = 8014, process = "ingestion-worker"
      command         = ["python", "-m", "ots_ingestion", "worker"]
      database        = local.market_database, role = "ots", password = "DB_PASSWORD_OWNER"
      spool           = true, vendor = false, kernels = false, lone = true, stop_s = 30
      environment     = { WORKER_METRICS_PORT = "8014" }
      secrets         = {}
    }

    analytics = {
      compose_service = "analytics", repository = "analytics", port = 8003, metrics_port = 8003, process = null
      command         = ["env", "PROMETHEUS_MULTIPROC_DIR=/run/ots/metrics", "gunicorn", "--config", "python:ots_analytics.gunicorn_conf", "ots_analytics.app:create_app()"]
      database        = local.market_database, role = "ots_reader", password = "DB_PASSWORD_READER"
      spool           = false, vendor = false, kernels = true, lone = false, stop_s = 30
      environment     = {}
      secrets         = {}
    }

    # stores implied volatility, as a role that can write nothing else
    volatility-snapshots = {
      compose_service = "analytics-snapshots", repository = "analytics", port = null, metrics_port = 8015, process = "analytics-snapshots"
      command         = ["python", "-m", "ots_analytics", "snapshots"]
      database        = local.market_database, role = "ots_snapshots", password = "DB_PASSWORD_SNAPSHOTS"
      spool           = false, vendor = false, kernels = true, lone = true, stop_s = 30
      environment     = { SNAPSHOTS_METRICS_PORT = "8015" }
      secrets         = {}
    }

    signals = {
      compose_service = "signals", repository = "signals", port = 8004, metrics_port = 8004, process = null
      command         = ["env", "PROMETHEUS_MULTIPROC_DIR=/run/ots/metrics", "gunicorn", "--config", "python:ots_signals.gunicorn_conf", "ots_signals.app:create_app()"]
      database        = local.market_database, role = "ots_signals", password = "DB_PASSWORD_SIGNALS"
      spool           = false, vendor = false, kernels = true, lone = false, stop_s = 30
      environment     = { UPSTREAMS = jsonencode({ for callee in local.calls.signals : callee => local.urls[callee] }) }
      secrets         = {}
    }

    signals-worker = {
      compose_service = "signals-worker", repository = "signals", port = null, metrics_port = 8016, process = "signals-worker"
      command         = ["python", "-m", "ots_signals", "worker"]
      database        = local.market_database, role = "ots_signals", password = "DB_PASSWORD_SIGNALS"
      spool           = false, vendor = false, kernels = true, lone = true, stop_s = 30
      environment = {
        SIGNALS_METRICS_PORT = "8016"
        UPSTREAMS            = jsonencode({ for callee in local.calls["signals-worker"] : callee => local.urls[callee] })
      }
      secrets = {}
    }
  }

  web_services = { for name, service in local.services : name => service if service.port != null }
  scaled       = { for name, service in local.services : name => local.size[name] if local.size[name].min != null }

  vendor_secrets = var.vendor_key ? { DATABENTO_API_KEY = "DATABENTO_API_KEY" } : {}

  # possession of KEY_<caller>_<service> is the permission to call
  key_names = { signals-worker = "signals" } # it signs as its service
  signing_secrets = {
    for name in keys(local.services) : name => {
      for callee in lookup(local.calls, name, []) :
      "SIGNING_KEYS__${upper(replace(lookup(local.service_names, callee, callee), "-", "_"))}"
      => "KEY_${upper(lookup(local.key_names, name, name))}_${upper(callee)}"
    }
  }
  accept_secrets = {
    for name in keys(local.services) : name => {
      for caller, callees in local.calls :
      "ACCEPT_KEYS__${upper(caller)}" => "KEY_${upper(caller)}_${upper(name)}"
      if contains(callees, name) && !contains(keys(local.key_names), caller)
    }
  }

  common_environment = {
    OTS_ENVIRONMENT = "production"
    OTS_INSTANCE    = local.name
    MARKET_SOURCE   = "databento"
    MARKET_CALENDAR = "xnys"
    LOG_FORMAT      = "json"
    LOG_LEVEL       = var.log_level
    # the password comes apart, as PGPASSWORD, and libpq reads these two
    PGSSLMODE     = "verify-full"
    PGSSLROOTCERT = local.database_ca_file
    # TLS; its password comes apart, as REDIS_PASSWORD
    REDIS_URL = "rediss://${local.redis_url_host}:${local.redis_port}/0"
  }

  environments = {
    for name, service in local.services : name => merge(
      local.common_environment,
      service.port == null ? {} : { WORKERS = tostring(var.gunicorn_workers) },
      { DATABASE_URL = "postgresql://${service.role}@${local.database_host}:${local.database_port}/${service.database}" },
      service.environment,
      lookup(var.settings, "all", {}),
      lookup(var.settings, name, {}),
    )
  }

  # variable -> name of the secret
  secrets = {
    for name, service in local.services : name => merge(
      { PGPASSWORD = service.password, REDIS_PASSWORD = "REDIS_PASSWORD" },
      local.ca_secrets,
      service.secrets,
      local.signing_secrets[name],
      local.accept_secrets[name],
    )
  }

  ca_secrets = var.database_public_ca ? {} : { DATABASE_CA = "DATABASE_CA" }
  # libpq takes certificates from a file only
  entry_point = ["sh", "-c", var.database_public_ca ? "exec \"$@\"" : "printf '%s\\n' \"$DATABASE_CA\" > \"$PGSSLROOTCERT\" && exec \"$@\"", "ots"]

  # as the Dockerfiles' and docker-compose.yml's
  health_checks = {
    for name, service in local.services : name => {
      command = service.port != null ? [
        "CMD", "python", "-I", "-c",
        "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:${service.port}/health/live', timeout=4)",
        ] : [
        "CMD", "python", "-c",
        join(" ", [
          "import os, psycopg2;",
          "cursor = psycopg2.connect(os.environ[\"DATABASE_URL\"], connect_timeout=4).cursor();",
          "cursor.execute(\"SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = '${service.process}'\");",
          "raise SystemExit(0 if cursor.rowcount else 1)",
        ]),
      ]
      interval    = service.port != null ? 10 : 15
      timeout     = 10
      startPeriod = service.kernels ? 300 : 30
      retries     = service.port != null ? 5 : 3
    }
  }

  # Fargate has no memory for files: empty volumes on the task's own disk, which ends with it. Their owner and mode are
  # those of the image's VOLUMEs
  scratch = {
    for name, service in local.services : name => merge(
      { tmp = "/tmp", metrics = "/run/ots/metrics" },
      service.kernels ? { kernels = "/var/cache/ots-kernels" } : {},
    )
  }

  containers = {
    for name, service in local.services : name => {
      name        = name
      image       = local.images[service.repository]
      essential   = true
      entryPoint  = local.entry_point
      command     = service.command
      user        = "10001:10001"
      environment = [for key, value in local.environments[name] : { name = key, value = value }]
      secrets     = [for key, secret in local.secrets[name] : { name = key, valueFrom = aws_secretsmanager_secret.platform[secret].arn }]

      # ECS Exec's agent writes to the root file system
      readonlyRootFilesystem = !var.execute_command
      linuxParameters        = { initProcessEnabled = true, capabilities = { add = [], drop = ["ALL"] } }
      ulimits                = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]

      portMappings = [{
        name          = service.port != null ? "http" : "metrics"
        containerPort = service.metrics_port
        hostPort      = service.metrics_port
        protocol      = "tcp"
      }]
      mountPoints = concat(
        [for volume, path in local.scratch[name] : { sourceVolume = volume, containerPath = path, readOnly = false }],
        service.spool ? [{ sourceVolume = "spool", containerPath = "/var/lib/ots/spool", readOnly = false }] : [],
      )
      volumesFrom    = []
      systemControls = []

      healthCheck = local.health_checks[name]
      stopTimeout = service.stop_s

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.service[name].name
          awslogs-region        = var.region
          awslogs-stream-prefix = "task"
          # a log that cannot be written must not stop the work
          mode            = "non-blocking"
          max-buffer-size = "8m"
        }
      }
    }
  }
}

resource "aws_ecs_task_definition" "service" {
  for_each = local.services

  family                   = "${local.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.size[each.key].cpu
  memory                   = local.size[each.key].memory
  execution_role_arn       = aws_iam_role.execution[each.key].arn
  task_role_arn            = aws_iam_role.task[each.key].arn
  container_definitions    = jsonencode([local.containers[each.key]])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  dynamic "volume" {
    for_each = local.scratch[each.key]

    content {
      name = volume.key
    }
  }

  dynamic "volume" {
    for_each = each.value.spool ? ["spool"] : []

    content {
      name = volume.value

      efs_volume_configuration {
        file_system_id     = aws_efs_file_system.spool.id
        transit_encryption = "ENABLED"

        authorization_config {
          access_point_id = aws_efs_access_point.spool.id
          iam             = "ENABLED"
        }
      }
    }
  }

  # a rollback goes back to the one before, which must still be there
  skip_destroy = true
}

resource "aws_ecs_service" "service" {
  for_each = local.services

  name            = each.key
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.service[each.key].arn
  # deploy-prod.sh says how many, once the schema is there; later the autoscaling
  desired_count    = 0
  launch_type      = "FARGATE"
  platform_version = "LATEST"

  # a lone one ends before the next begins: the lease in the database would let two be, but the second only waits
  deployment_minimum_healthy_percent = each.value.lone ? 0 : 100
  deployment_maximum_percent         = each.value.lone ? 100 : 200
  availability_zone_rebalancing      = each.value.lone ? "DISABLED" : "ENABLED"
  health_check_grace_period_seconds  = each.key == "gateway" ? 60 : null

  enable_execute_command  = var.execute_command
  enable_ecs_managed_tags = true
  propagate_tags          = "SERVICE"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = [for subnet in aws_subnet.private : subnet.id]
    security_groups  = [aws_security_group.service[each.key].id]
    assign_public_ip = false
  }

  dynamic "load_balancer" {
    for_each = each.key == "gateway" ? [aws_lb_target_group.gateway.arn] : []

    content {
      target_group_arn = load_balancer.value
      container_name   = "gateway"
      container_port   = each.value.port
    }
  }

  service_registries {
    registry_arn = aws_service_discovery_service.service[each.key].arn
  }

  dynamic "service_connect_configuration" {
    for_each = var.service_connect_tls && (contains(keys(local.calls), each.key) || contains(local.callees, each.key)) ? [true] : []

    content {
      enabled   = true
      namespace = aws_service_discovery_http_namespace.connect[0].arn

      dynamic "service" {
        for_each = contains(local.callees, each.key) ? [true] : []

        content {
          port_name      = "http"
          discovery_name = each.key

          client_alias {
            dns_name = each.key
            port     = each.value.port
          }

          # none of its own: the gateway's deadlines hold, route by route
          timeout {
            idle_timeout_seconds        = local.longest_request_s + 20
            per_request_timeout_seconds = 0
          }

          tls {
            kms_key  = aws_kms_key.secrets.arn
            role_arn = aws_iam_role.connect[0].arn

            issuer_cert_authority {
              aws_pca_authority_arn = aws_acmpca_certificate_authority_certificate.connect[0].certificate_authority_arn
            }
          }
        }
      }

      log_configuration {
        log_driver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.service[each.key].name
          awslogs-region        = var.region
          awslogs-stream-prefix = "connect"
        }
      }
    }
  }

  lifecycle {
    # a release moves these, after its migration: deploy-prod.sh; and the autoscaling
    ignore_changes = [task_definition, desired_count]
  }

  depends_on = [aws_lb_listener_rule.gateway, aws_iam_role_policy.execution, aws_efs_mount_target.spool]
}

# --- more where more is asked ---

resource "aws_appautoscaling_target" "service" {
  for_each = var.autoscaling ? local.scaled : {}

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.service[each.key].name}"
  min_capacity       = each.value.min
  max_capacity       = each.value.max
}

resource "aws_appautoscaling_policy" "cpu" {
  for_each = var.autoscaling ? local.scaled : {}

  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.service[each.key].service_namespace
  scalable_dimension = aws_appautoscaling_target.service[each.key].scalable_dimension
  resource_id        = aws_appautoscaling_target.service[each.key].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.cpu_target_percent
    scale_out_cooldown = local.services[each.key].kernels ? 300 : 60 # it compiles first, which is CPU too
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

# the gateway waits more than it computes; the others stand behind no load balancer, and run out of CPU
resource "aws_appautoscaling_policy" "requests" {
  count = var.autoscaling ? 1 : 0

  name               = "requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.service["gateway"].service_namespace
  scalable_dimension = aws_appautoscaling_target.service["gateway"].scalable_dimension
  resource_id        = aws_appautoscaling_target.service["gateway"].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.requests_per_gateway_per_minute
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.main.arn_suffix}/${aws_lb_target_group.gateway.arn_suffix}"
    }
  }
}
