# Two roles per service: the execution role is ECS' (pull this image, read these secrets, write this log), the task role is
# the program's own, which asks AWS for nothing but the spool.

data "aws_iam_policy_document" "task_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # nobody else's tasks
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${var.region}:${local.account}:*"]
    }
  }
}

locals {
  task_repositories = merge({ for name, service in local.services : name => service.repository }, { migrate = "gateway" })
  task_secret_arns = {
    for name, secrets in merge(local.secrets, { migrate = local.migrate_secrets }) : name => concat(
      [for secret in distinct(values(secrets)) : aws_secretsmanager_secret.platform[secret].arn],
      name == "migrate" ? [local.database_master_secret_arn] : [],
    )
  }
}

data "aws_iam_policy_document" "execution" {
  for_each = toset(local.task_names)

  statement {
    sid     = "SignInToECR"
    actions = ["ecr:GetAuthorizationToken"]
    # the action has no resource: the token is the caller's own, and opens what the next statement names
    resources = ["*"]
  }

  statement {
    sid       = "PullItsImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [aws_ecr_repository.service[local.task_repositories[each.key]].arn]
  }

  statement {
    sid       = "WriteItsLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.service[each.key].arn}:log-stream:*"]
  }

  statement {
    sid       = "ReadItsSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = local.task_secret_arns[each.key]
  }

  statement {
    sid       = "OpenThem"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.secrets.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  for_each = toset(local.task_names)

  name               = "${local.name}-${each.key}-execution"
  description        = "ECS starts ${each.key} with it"
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

resource "aws_iam_role_policy" "execution" {
  for_each = toset(local.task_names)

  name   = "start"
  role   = aws_iam_role.execution[each.key].id
  policy = data.aws_iam_policy_document.execution[each.key].json
}

resource "aws_iam_role" "task" {
  for_each = toset(local.task_names)

  name               = "${local.name}-${each.key}"
  description        = "What ${each.key} itself may ask of AWS"
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

data "aws_iam_policy_document" "spool" {
  statement {
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    resources = [aws_efs_file_system.spool.arn]

    condition {
      test     = "StringEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.spool.arn]
    }
  }
}

resource "aws_iam_role_policy" "spool" {
  for_each = toset(local.spool_users)

  name   = "spool"
  role   = aws_iam_role.task[each.key].id
  policy = data.aws_iam_policy_document.spool.json
}

data "aws_iam_policy_document" "execute_command" {
  statement {
    sid     = "Channels"
    actions = ["ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"]
    # ssmmessages knows no resources
    resources = ["*"]
  }

  statement {
    sid       = "TheKeyOfTheSession"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.logs.arn]
  }

  statement {
    sid       = "WhatWasTyped"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.execute_command.arn}:*"]
  }

  statement {
    sid     = "FindIt"
    actions = ["logs:DescribeLogGroups"]
    # a listing has no resource
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "execute_command" {
  for_each = var.execute_command ? local.services : {}

  name   = "execute-command"
  role   = aws_iam_role.task[each.key].id
  policy = data.aws_iam_policy_document.execute_command.json
}
