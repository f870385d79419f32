# Who may reach whom. A group per service, each rule between two groups; only the load balancer knows addresses.

locals {
  task_names = concat(keys(local.services), ["migrate"])

  # ["gateway", "cache"]: gateway may call cache
  call_pairs = merge([
    for caller, callees in local.calls : { for callee in callees : "${caller}-${callee}" => [caller, callee] }
  ]...)

  spool_users  = [for name, service in local.services : name if service.spool]
  vendor_users = [for name, service in local.services : name if service.vendor]
  # the market's own ports: HTTPS for history, 13000 for live
  vendor_pairs = merge([for name in local.vendor_users : {
    "${name}-history" = { service = name, port = 443 }
    "${name}-live"    = { service = name, port = 13000 }
  }]...)
}

resource "aws_security_group" "alb" {
  name        = "${local.name}-alb"
  description = "The load balancer: clients in, the gateway out"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-alb" }
}

resource "aws_security_group" "service" {
  for_each = toset(local.task_names)

  name        = "${local.name}-${each.key}"
  description = "Tasks of ${each.key}"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-${each.key}" }
}

resource "aws_security_group" "monitoring" {
  name        = "${local.name}-monitoring"
  description = "Whoever reads the services' metrics"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-monitoring" }
}

resource "aws_security_group" "database" {
  name        = "${local.name}-database"
  description = "PostgreSQL, or the endpoint that leads to it"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-database" }
}

resource "aws_security_group" "redis" {
  name        = "${local.name}-redis"
  description = "Redis"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-redis" }
}

resource "aws_security_group" "efs" {
  name        = "${local.name}-efs"
  description = "The spool"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-efs" }
}

resource "aws_security_group" "endpoints" {
  name        = "${local.name}-endpoints"
  description = "Endpoints of AWS services"
  vpc_id      = aws_vpc.main.id

  tags = { Name = "${local.name}-endpoints" }
}

# --- clients -> load balancer -> gateway ---

resource "aws_vpc_security_group_ingress_rule" "alb_https" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.alb.id
  description       = "Clients"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "alb_http" {
  #checkov:skip=CKV_AWS_260:answered with a redirection to HTTPS only
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.alb.id
  description       = "Clients that are sent on to HTTPS"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

resource "aws_vpc_security_group_egress_rule" "alb_gateway" {
  security_group_id            = aws_security_group.alb.id
  description                  = "The gateway"
  referenced_security_group_id = aws_security_group.service["gateway"].id
  ip_protocol                  = "tcp"
  from_port                    = local.services.gateway.port
  to_port                      = local.services.gateway.port
}

resource "aws_vpc_security_group_ingress_rule" "gateway_alb" {
  security_group_id            = aws_security_group.service["gateway"].id
  description                  = "The load balancer"
  referenced_security_group_id = aws_security_group.alb.id
  ip_protocol                  = "tcp"
  from_port                    = local.services.gateway.port
  to_port                      = local.services.gateway.port
}

# --- service -> service ---

resource "aws_vpc_security_group_egress_rule" "call" {
  for_each = local.call_pairs

  security_group_id            = aws_security_group.service[each.value[0]].id
  description                  = "Calls ${each.value[1]}"
  referenced_security_group_id = aws_security_group.service[each.value[1]].id
  ip_protocol                  = "tcp"
  from_port                    = local.services[each.value[1]].port
  to_port                      = local.services[each.value[1]].port
}

resource "aws_vpc_security_group_ingress_rule" "call" {
  for_each = local.call_pairs

  security_group_id            = aws_security_group.service[each.value[1]].id
  description                  = "Called by ${each.value[0]}"
  referenced_security_group_id = aws_security_group.service[each.value[0]].id
  ip_protocol                  = "tcp"
  from_port                    = local.services[each.value[1]].port
  to_port                      = local.services[each.value[1]].port
}

# --- monitoring -> metrics ---

resource "aws_vpc_security_group_egress_rule" "metrics" {
  for_each = local.services

  security_group_id            = aws_security_group.monitoring.id
  description                  = "Metrics of ${each.key}"
  referenced_security_group_id = aws_security_group.service[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.metrics_port
  to_port                      = each.value.metrics_port
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each = local.services

  security_group_id            = aws_security_group.service[each.key].id
  description                  = "Monitoring"
  referenced_security_group_id = aws_security_group.monitoring.id
  ip_protocol                  = "tcp"
  from_port                    = each.value.metrics_port
  to_port                      = each.value.metrics_port
}

# --- everybody -> database, Redis; ingestion -> the spool ---

resource "aws_vpc_security_group_egress_rule" "database" {
  for_each = toset(local.task_names)

  security_group_id            = aws_security_group.service[each.key].id
  description                  = "PostgreSQL"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.database_port
  to_port                      = local.database_port
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  for_each = toset(local.task_names)

  security_group_id            = aws_security_group.database.id
  description                  = "From ${each.key}"
  referenced_security_group_id = aws_security_group.service[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = local.database_port
  to_port                      = local.database_port
}

resource "aws_vpc_security_group_egress_rule" "redis" {
  for_each = local.services

  security_group_id            = aws_security_group.service[each.key].id
  description                  = "Redis"
  referenced_security_group_id = aws_security_group.redis.id
  ip_protocol                  = "tcp"
  from_port                    = local.redis_port
  to_port                      = local.redis_port
}

resource "aws_vpc_security_group_ingress_rule" "redis" {
  for_each = local.services

  security_group_id            = aws_security_group.redis.id
  description                  = "From ${each.key}"
  referenced_security_group_id = aws_security_group.service[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = local.redis_port
  to_port                      = local.redis_port
}

resource "aws_vpc_security_group_egress_rule" "efs" {
  for_each = toset(local.spool_users)

  security_group_id            = aws_security_group.service[each.key].id
  description                  = "The spool"
  referenced_security_group_id = aws_security_group.efs.id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

resource "aws_vpc_security_group_ingress_rule" "efs" {
  for_each = toset(local.spool_users)

  security_group_id            = aws_security_group.efs.id
  description                  = "From ${each.key}"
  referenced_security_group_id = aws_security_group.service[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

# --- tasks -> AWS: images, secrets, logs ---

locals {
  # who starts containers; with endpoints to them and S3 alone, else to HTTPS anywhere
  aws_callers = merge(
    { for name in local.task_names : name => aws_security_group.service[name].id },
    { monitoring = aws_security_group.monitoring.id },
  )
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  for_each = var.interface_endpoints ? local.aws_callers : {}

  security_group_id            = each.value
  description                  = "Endpoints of AWS services"
  referenced_security_group_id = aws_security_group.endpoints.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = var.interface_endpoints ? local.aws_callers : {}

  security_group_id            = aws_security_group.endpoints.id
  description                  = "From ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  for_each = var.interface_endpoints ? local.aws_callers : {}

  security_group_id = each.value
  description       = "S3, where ECR keeps layers"
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "aws_by_nat" {
  for_each = var.interface_endpoints ? {} : { for name, id in local.aws_callers : name => id if !contains(local.vendor_users, name) }

  security_group_id = each.value
  description       = "AWS, whose addresses change, through NAT"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# --- ingestion -> Databento, whose addresses are not promised ---

resource "aws_vpc_security_group_egress_rule" "vendor" {
  for_each = local.vendor_pairs

  security_group_id = aws_security_group.service[each.value.service].id
  description       = "Databento, port ${each.value.port}"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}
