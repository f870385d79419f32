# A workflow of one repository, in one environment of GitHub's, may release: push images, register task definitions, run
# the migration, move the services. It reads the rest, so that it can plan, and changes none of it: what a plan changes
# beside task definitions is applied by a person with rights of their own. No key exists that could be stolen.

locals {
  with_github        = var.github_repository != null
  github_environment = coalesce(var.github_environment, var.environment)
  github_issuer      = "token.actions.githubusercontent.com"
}

resource "aws_iam_openid_connect_provider" "github" {
  count = local.with_github && var.github_oidc_provider_arn == null ? 1 : 0

  url            = "https://${local.github_issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "github_trust" {
  count = local.with_github ? 1 : 0

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [coalesce(var.github_oidc_provider_arn, one(aws_iam_openid_connect_provider.github[*].arn))]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    # which branches may use the environment is set at GitHub, with it
    condition {
      test     = "StringEquals"
      variable = "${local.github_issuer}:sub"
      values   = ["repo:${var.github_repository}:environment:${local.github_environment}"]
    }
  }
}

resource "aws_iam_role" "github" {
  count = local.with_github ? 1 : 0

  name                 = "${local.name}-github"
  description          = "Releases of ${var.github_repository}"
  assume_role_policy   = data.aws_iam_policy_document.github_trust[0].json
  max_session_duration = 3600
}

# what `terraform plan` reads: dozens of kinds of resources. What holds values is denied below
resource "aws_iam_role_policy_attachment" "github_reads" {
  count = local.with_github ? 1 : 0

  role       = aws_iam_role.github[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/ReadOnlyAccess"
}

data "aws_iam_policy_document" "github" {
  count = local.with_github ? 1 : 0

  statement {
    sid     = "SignInToECR"
    actions = ["ecr:GetAuthorizationToken"]
    # the action has no resource
    resources = ["*"]
  }

  statement {
    sid = "PushImages"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = [for repository in aws_ecr_repository.service : repository.arn]
  }

  statement {
    sid     = "RegisterTaskDefinitions"
    actions = ["ecs:RegisterTaskDefinition", "ecs:TagResource"]
    resources = [
      for name in local.task_names : "arn:${local.partition}:ecs:${var.region}:${local.account}:task-definition/${local.name}-${name}:*"
    ]
  }

  statement {
    sid       = "MoveServices"
    actions   = ["ecs:UpdateService"]
    resources = [for service in aws_ecs_service.service : service.id]
  }

  statement {
    sid       = "Migrate"
    actions   = ["ecs:RunTask"]
    resources = ["arn:${local.partition}:ecs:${var.region}:${local.account}:task-definition/${aws_ecs_task_definition.migrate.family}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.main.arn]
    }
  }

  statement {
    sid       = "StopAMigration"
    actions   = ["ecs:StopTask"]
    resources = ["arn:${local.partition}:ecs:${var.region}:${local.account}:task/${aws_ecs_cluster.main.name}/*"]
  }

  statement {
    sid       = "HandOnTheTasksRoles"
    actions   = ["iam:PassRole"]
    resources = concat([for role in aws_iam_role.execution : role.arn], [for role in aws_iam_role.task : role.arn])

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "State"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["arn:${local.partition}:s3:::${var.state_bucket}/${local.name}/*"]
  }

  statement {
    sid       = "UnlockState"
    actions   = ["s3:DeleteObject"]
    resources = ["arn:${local.partition}:s3:::${var.state_bucket}/${local.name}/*.tflock"]
  }

  # ReadOnlyAccess would read the market, the logs of who asked what, and messages
  statement {
    sid           = "ReadNoData"
    effect        = "Deny"
    actions       = ["s3:GetObject", "s3:GetObjectVersion"]
    not_resources = ["arn:${local.partition}:s3:::${var.state_bucket}/${local.name}/*"]
  }

  statement {
    sid    = "ReadNoSecrets"
    effect = "Deny"
    actions = [
      "secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "ssm:GetParameter*",
      "rds:DownloadDBLogFilePortion", "rds:DownloadCompleteDBLogFile",
    ]
    # a denial of everything
    resources = ["*"]
  }

  statement {
    sid       = "OpenNothing"
    effect    = "Deny"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.data.arn, aws_kms_key.secrets.arn, aws_kms_key.logs.arn]
  }
}

resource "aws_iam_role_policy" "github" {
  count = local.with_github ? 1 : 0

  name   = "release"
  role   = aws_iam_role.github[0].id
  policy = data.aws_iam_policy_document.github[0].json
}
