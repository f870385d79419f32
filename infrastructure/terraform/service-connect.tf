# How the services find each other: by DNS, <service>.<name>.internal, one address per task; or through Service Connect's
# proxies, which speak TLS with each other. Prometheus finds every task by DNS in either case.

resource "aws_service_discovery_private_dns_namespace" "main" {
  name        = "${local.name}.internal"
  description = "Tasks of ${local.name}"
  vpc         = aws_vpc.main.id
}

resource "aws_service_discovery_service" "service" {
  for_each = local.services

  name = each.key

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.main.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = 10
    }
  }

  # ECS says who is well: a task that still compiles is in no answer
  health_check_custom_config {
    failure_threshold = 1
  }

  # a name that had tasks may still be deleted
  force_destroy = true
}

locals {
  callees = distinct(flatten(values(local.calls)))

  urls = {
    for callee in local.callees : callee => (
      var.service_connect_tls
      ? "http://${callee}:${local.ports[callee]}" # to the task's own proxy, which speaks TLS with the other
      : "http://${callee}.${local.name}.internal:${local.ports[callee]}"
    )
  }

  # apart from the services, whose variables hold these addresses
  ports = { cache = 8001, ingestion = 8002, analytics = 8003, signals = 8004 }
}

# --- TLS between the services ---

resource "aws_service_discovery_http_namespace" "connect" {
  count = var.service_connect_tls ? 1 : 0

  name        = "${local.name}-connect"
  description = "Service Connect of ${local.name}"
}

resource "aws_acmpca_certificate_authority" "connect" {
  count = var.service_connect_tls ? 1 : 0

  type = "ROOT"
  # certificates of a few days, which ECS renews: an eighth of a general authority's price, and nothing to revoke
  usage_mode                      = "SHORT_LIVED_CERTIFICATE"
  permanent_deletion_time_in_days = 7

  certificate_authority_configuration {
    key_algorithm     = "EC_prime256v1"
    signing_algorithm = "SHA256WITHECDSA"

    subject {
      common_name = "${local.name}.internal"
    }
  }

  # ECS uses authorities with this tag only
  tags = { AmazonECSManaged = "true" }
}

resource "aws_acmpca_certificate" "connect" {
  count = var.service_connect_tls ? 1 : 0

  certificate_authority_arn   = aws_acmpca_certificate_authority.connect[0].arn
  certificate_signing_request = aws_acmpca_certificate_authority.connect[0].certificate_signing_request
  signing_algorithm           = "SHA256WITHECDSA"
  template_arn                = "arn:${local.partition}:acm-pca:::template/RootCACertificate/V1"

  validity {
    type  = "YEARS"
    value = 10
  }
}

resource "aws_acmpca_certificate_authority_certificate" "connect" {
  count = var.service_connect_tls ? 1 : 0

  certificate_authority_arn = aws_acmpca_certificate_authority.connect[0].arn
  certificate               = aws_acmpca_certificate.connect[0].certificate
  certificate_chain         = aws_acmpca_certificate.connect[0].certificate_chain
}

data "aws_iam_policy_document" "connect_trust" {
  count = var.service_connect_tls ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "connect" {
  count = var.service_connect_tls ? 1 : 0

  name               = "${local.name}-service-connect"
  assume_role_policy = data.aws_iam_policy_document.connect_trust[0].json
}

resource "aws_iam_role_policy_attachment" "connect" {
  count = var.service_connect_tls ? 1 : 0

  role       = aws_iam_role.connect[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonECSInfrastructureRolePolicyForServiceConnectTransportLayerSecurity"
}

# the private key of a task's certificate lies in Secrets Manager, under our key
resource "aws_iam_role_policy" "connect" {
  count = var.service_connect_tls ? 1 : 0

  name = "key"
  role = aws_iam_role.connect[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:DescribeKey"]
      Resource = aws_kms_key.secrets.arn
    }]
  })
}
