# What the account may cost a month. It counts the whole account: tags reach the bill only once somebody switched them on
# as cost allocation tags (docs/COST_AND_SCALE.md tells how).

locals {
  budget_notices = {
    half     = { kind = "ACTUAL", percent = 50 }
    most     = { kind = "ACTUAL", percent = 80 }
    all      = { kind = "ACTUAL", percent = 100 }
    forecast = { kind = "FORECASTED", percent = 100 }
  }
}

resource "aws_budgets_budget" "monthly" {
  count = var.monthly_budget_usd > 0 ? 1 : 0

  name         = "${local.name}-monthly"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_unit   = "USD"
  limit_amount = tostring(var.monthly_budget_usd)

  dynamic "notification" {
    for_each = local.budget_notices
    content {
      notification_type          = notification.value.kind
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value.percent
      threshold_type             = "PERCENTAGE"
      subscriber_sns_topic_arns  = [aws_sns_topic.alerts.arn]
      subscriber_email_addresses = var.alert_emails
    }
  }

  depends_on = [aws_sns_topic_policy.alerts]
}
