# Buckets: raw (DBN files, the market as the vendor sent it), backups (of the database), logs (of the load balancer).
# Names end in the account's number, because the world shares one room of bucket names.

resource "aws_s3_bucket" "raw" {
  #checkov:skip=CKV_AWS_144:DBN can be had again from the vendor; a copy in a second region would double the largest bill
  #checkov:skip=CKV2_AWS_62:nobody waits for an object to arrive
  bucket        = "${local.name}-raw-${local.account}"
  force_destroy = var.buckets_may_be_emptied
}

resource "aws_s3_bucket" "backups" {
  #checkov:skip=CKV_AWS_144:RDS keeps its own snapshots apart; a copy in a second region is a choice with a price, in docs/COST_AND_SCALE.md
  #checkov:skip=CKV2_AWS_62:nobody waits for an object to arrive
  bucket        = "${local.name}-backups-${local.account}"
  force_destroy = var.buckets_may_be_emptied
}

resource "aws_s3_bucket" "logs" {
  #checkov:skip=CKV_AWS_144:access logs of 90 days
  #checkov:skip=CKV2_AWS_62:nobody waits for an object to arrive
  #checkov:skip=CKV_AWS_18:the bucket that access logs go to; its own would go to itself
  #checkov:skip=CKV_AWS_145:the load balancer writes its logs with S3's own key only
  bucket        = "${local.name}-logs-${local.account}"
  force_destroy = var.buckets_may_be_emptied
}

locals {
  # keys are known when planning, so that for_each may use them
  buckets = {
    raw     = { id = aws_s3_bucket.raw.id, arn = aws_s3_bucket.raw.arn }
    backups = { id = aws_s3_bucket.backups.id, arn = aws_s3_bucket.backups.arn }
    logs    = { id = aws_s3_bucket.logs.id, arn = aws_s3_bucket.logs.arn }
  }

  # who may write there beside IAM's roles
  bucket_writers = {
    raw     = []
    backups = []
    logs = [
      {
        Sid       = "LoadBalancerWritesItsLogs"
        Effect    = "Allow"
        Principal = { Service = "logdelivery.elasticloadbalancing.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.logs.arn}/alb/AWSLogs/${local.account}/*"
      },
      {
        Sid       = "RawWritesItsLog"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.logs.arn}/s3/raw/*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        Sid       = "BackupsWritesItsLog"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.logs.arn}/s3/backups/*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
    ]
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = each.value.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = each.value.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = each.value.id
  rule {
    bucket_key_enabled = each.key != "logs"
    apply_server_side_encryption_by_default {
      sse_algorithm     = each.key == "logs" ? "AES256" : "aws:kms"
      kms_master_key_id = each.key == "logs" ? null : aws_kms_key.data.arn
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [each.value.arn, "${each.value.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "Tls12AtLeast"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = [each.value.arn, "${each.value.arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ], local.bucket_writers[each.key])
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_logging" "this" {
  for_each = { raw = aws_s3_bucket.raw.id, backups = aws_s3_bucket.backups.id }

  bucket        = each.value
  target_bucket = aws_s3_bucket.logs.id
  target_prefix = "s3/${each.key}/"

  depends_on = [aws_s3_bucket_policy.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "raw" {
  bucket = aws_s3_bucket.raw.id

  rule {
    id     = "age"
    status = "Enabled"
    filter {}

    dynamic "transition" {
      for_each = var.raw_infrequent_after_days > 0 ? [var.raw_infrequent_after_days] : []
      content {
        days          = transition.value
        storage_class = "STANDARD_IA"
      }
    }
    dynamic "transition" {
      for_each = var.raw_glacier_after_days > 0 ? [var.raw_glacier_after_days] : []
      content {
        days          = transition.value
        storage_class = "GLACIER_IR"
      }
    }
    dynamic "expiration" {
      for_each = var.raw_expire_after_days > 0 ? [var.raw_expire_after_days] : []
      content {
        days = expiration.value
      }
    }
  }

  rule {
    id     = "leftovers"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "kept_for_a_while" {
  for_each = {
    backups = { id = aws_s3_bucket.backups.id, days = var.backups_expire_after_days }
    logs    = { id = aws_s3_bucket.logs.id, days = 90 }
  }

  bucket = each.value.id

  rule {
    id     = "age"
    status = "Enabled"
    filter {}
    dynamic "expiration" {
      for_each = each.value.days > 0 ? [each.value.days] : []
      content {
        days = expiration.value
      }
    }
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
