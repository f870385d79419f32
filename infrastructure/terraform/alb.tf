locals {
  make_certificate = var.certificate_arn == null
  certificate_arn  = local.make_certificate ? aws_acm_certificate_validation.main[0].certificate_arn : var.certificate_arn
}

resource "aws_acm_certificate" "main" {
  count = local.make_certificate ? 1 : 0

  domain_name       = var.domain_name
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  for_each = local.make_certificate ? toset([var.domain_name]) : []

  zone_id         = var.hosted_zone_id
  name            = one(aws_acm_certificate.main[0].domain_validation_options).resource_record_name
  type            = one(aws_acm_certificate.main[0].domain_validation_options).resource_record_type
  records         = [one(aws_acm_certificate.main[0].domain_validation_options).resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "main" {
  count = local.make_certificate ? 1 : 0

  certificate_arn         = aws_acm_certificate.main[0].arn
  validation_record_fqdns = [for record in aws_route53_record.validation : record.fqdn]
}

resource "aws_route53_record" "main" {
  count = var.hosted_zone_id == null ? 0 : 1

  zone_id = var.hosted_zone_id
  name    = var.domain_name
  type    = "A"

  alias {
    name                   = aws_lb.main.dns_name
    zone_id                = aws_lb.main.zone_id
    evaluate_target_health = false
  }
}

resource "aws_lb" "main" {
  #checkov:skip=CKV2_AWS_76:the rules against Log4j are there (waf.tf); the check also wants AnonymousIpList, which refuses every cloud, and programs that trade run there
  #checkov:skip=CKV_AWS_150:deletion protection by variable, true unless destroy needs it
  name               = local.name
  load_balancer_type = "application"
  internal           = false
  subnets            = [for subnet in aws_subnet.public : subnet.id]
  security_groups    = [aws_security_group.alb.id]

  # an import answers nothing while it waits for its run
  idle_timeout = local.longest_request_s + 10
  # a client that has said nothing for so long may come anew
  client_keep_alive = 3600

  drop_invalid_header_fields = true
  # no request that two readers could read differently comes through
  desync_mitigation_mode = "strictest"
  # appended on the right; the gateway believes what the load balancer appended, and that only
  xff_header_processing_mode = "append"
  enable_http2               = true
  enable_deletion_protection = var.deletion_protection

  access_logs {
    bucket  = aws_s3_bucket.logs.id
    prefix  = "alb"
    enabled = true
  }

  # ELB tries to write when it is told the bucket
  depends_on = [aws_s3_bucket_policy.this]
}

resource "aws_lb_target_group" "gateway" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer, in the same network; with service_connect_tls false the hop to the gateway is plain, within two security groups. See README.md
  name_prefix = "gw-"
  vpc_id      = aws_vpc.main.id
  target_type = "ip"
  protocol    = "HTTP"
  port        = local.services.gateway.port

  # ECS takes a task out, waits so long for the requests under way, and only then stops it
  deregistration_delay = local.longest_request_s
  # a question to a whole market takes a thousand times as long as one for a price; slow start does not go with it
  load_balancing_algorithm_type = "least_outstanding_requests"

  # whether it lives, not whether all behind it does: with the database away every gateway would be taken out at once, and
  # ECS would replace tasks that have nothing wrong with them, while they can still say what is wrong. /health tells that.
  health_check {
    path                = "/health/live"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = var.tls_policy
  certificate_arn   = local.certificate_arn

  # by address, or by another name: nobody we know. This is the gateway's ALLOWED_HOSTS, which cannot be set behind a load
  # balancer whose health checks come by a task's own address
  default_action {
    type = "fixed-response"

    fixed_response {
      content_type = "application/json"
      status_code  = "421"
      message_body = jsonencode({ type = "about:blank", title = "Misdirected Request", status = 421, detail = "no such host here" })
    }
  }
}

resource "aws_lb_listener_rule" "gateway" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 100

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateway.arn
  }

  condition {
    host_header {
      values = [var.domain_name]
    }
  }
}

# the metrics are read from within, by each task's own address
resource "aws_lb_listener_rule" "metrics" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10

  action {
    type = "fixed-response"

    fixed_response {
      content_type = "application/json"
      status_code  = "404"
      message_body = jsonencode({ type = "about:blank", title = "Not Found", status = 404, detail = "there is nothing at /metrics" })
    }
  }

  condition {
    path_pattern {
      values = ["/metrics"]
    }
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.main.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}
