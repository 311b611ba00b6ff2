# The plugin's mapping of one poll at first sight, without a state: the members of docs/events.md that need no memory.
#
# Takes a poll, {"scores": …, "controls": …} with both lists, and as $context the host's facts about the poll; gives the
# events. Left out, all to the gain of this program: the size limit, unknown properties with a name of the plugin's own,
# the spelling of items, and the uids of events, for which this language has no digest.

def without($keys): with_entries(select(.key as $key | $keys | index([$key]) | not));

def rounded($digits): pow(10; $digits) as $scale | (. * $scale + 0.5 | floor) / $scale;

def detail:
  .properties as $p
  | ($p.score // {}) as $score
  | if $score.current == null or $score.max == null then "No score"
    else "Score \($score.current) of \($score.max)"
      + (if $score.percentage == null then "" else " (\($score.percentage * 100 | rounded(10)) %)" end)
    end
  + if $p.healthyResourceCount == null or $p.unhealthyResourceCount == null then ""
    else "; Resources: \($p.healthyResourceCount) healthy, \($p.unhealthyResourceCount) unhealthy, "
      + "\($p.notApplicableResourceCount // 0) not applicable"
    end;

# [id, caption] of `compliance.status_id`.
def status($is_control):
  .properties as $p
  | ($p.score // {}) as $score
  | if $is_control and $p.healthyResourceCount != null and $p.unhealthyResourceCount != null then
      if $p.unhealthyResourceCount > 0 then [3, "Fail"]
      elif $p.healthyResourceCount > 0 then [1, "Pass"]
      else [99, "Not Applicable"]
      end
    elif $score.current == null or $score.max == null then [0, "Unknown"]
    elif $score.max <= 0 then [99, "Not Applicable"]
    elif $score.current >= $score.max then [1, "Pass"]
    else [3, "Fail"]
    end;

# [id, caption] of `severity_id`.
def severity($is_control; $status):
  (.properties.score // {}) as $score
  | if $status == 0 then [0, "Unknown"]
    elif $status != 3 or $score.current == null or $score.max == null or $score.max <= 0 then [1, "Informational"]
    elif $is_control then
      if $score.max - $score.current >= 5 then [4, "High"]
      elif $score.max - $score.current >= 2 then [3, "Medium"]
      else [2, "Low"]
      end
    elif $score.current < 0.75 * $score.max then [3, "Medium"]
    else [2, "Low"]
    end;

def workflow($status):
  if $status[0] == 3 then [1, "New"] elif $status[0] == 1 then [4, "Resolved"] else $status end;

def analytic:
  { uid: .name, name: .properties.displayName, type_id: 1, type: "Rule", category: .properties.source.sourceType }
  | with_entries(select(.value != null));

def event($is_control; $maxima):
  . as $item
  | .properties as $p
  | (.id | ascii_downcase) as $uid
  | ($p.displayName // .name)[:256] as $title
  | status($is_control) as $status
  | severity($is_control; $status[0]) as $severity
  | workflow($status) as $workflow
  | detail as $detail
  | (if $is_control then "Secure Score Control" else "Secure Score" end) as $noun
  | ($noun + "s") as $kind
  | (if $is_control then .id / "/" | .[6] // "unknown" else .name end) as $score_name
  | (if $is_control then $uid / "/securescorecontrols/" | .[0] else null end) as $parent
  | tojson as $raw
  | "/subscriptions/\($context.scope.id)" as $resource
  | {
      class_uid: 99402001, class_name: "Assessment Finding", category_uid: 2, category_name: "Findings",
      type_uid: 9940200101, type_name: "Assessment Finding: Create", activity_id: 1, activity_name: "Create",
      time: $context.time, severity_id: $severity[0], severity: $severity[1],
      status_id: $workflow[0], status: $workflow[1], status_detail: $detail,
      message: "\($noun) '\($title)': \($status[1]). \($detail)",
      metadata: {
        version: "1.8.0", correlation_uid: $context.poll_id, tenant_uid: $context.scope.tenant_id,
        product: { name: "Microsoft Defender for Cloud", vendor_name: "Microsoft", feature: { name: "Secure Score" } },
        profiles: ["cloud"], extensions: [{ name: "databee", uid: "994", version: "1.0.0" }],
        labels: ["feed:\($context.feed)", "tenant:\($context.tenant)"],
        original_event_uid: .id, event_code: .type, log_name: $kind, log_provider: "Azure Resource Manager",
        log_version: "2020-01-01", log_format: "JSON"
      },
      cloud: {
        provider: "Azure",
        account: { uid: $context.scope.id, name: $context.scope.name, type_id: 13, type: "Azure Subscription" },
        org: { uid: $context.scope.tenant_id }
      },
      finding_info: (
        {
          uid: $uid, title: "\($noun): \($title)", types: [$kind], data_sources: ["Microsoft Defender for Cloud"],
          last_seen_time: $context.time
        }
        + if $p.definition == null then {}
          else { analytic: ($p.definition | analytic) }
            + if $p.definition.properties.description == null then {} else { desc: $p.definition.properties.description } end
          end
        + if $maxima[$parent // ""] == null then {} else { related_events: [{ type_uid: 9940200101 }] } end
      ),
      compliance: {
        control: $title, standards: ["Microsoft Defender for Cloud Secure Score (\($score_name))"],
        status_id: $status[0], status: $status[1]
      },
      resources: [{
        uid: $resource, name: $context.scope.name, type: "Microsoft.Resources/subscriptions", role_id: 1, role: "Target"
      }],
      observables: [{ name: "resources[0].uid", type_id: 10, type: "Resource UID", value: $resource }],
      unmapped: (
        ($item | without(["id", "name", "type", "properties"]))
        + ($p | with_entries(select(.value != null and .key != "displayName" and .key != "definition")))
        + if $p.definition == null then {}
          else {
            definition: (
              ($p.definition | without(["id", "name", "type", "properties"]))
              + ($p.definition.properties | without(["assessmentDefinitions", "displayName", "description"]))
            )
          }
          end
        + { name: .name, type: .type, score_model: "control-based", change: { reason: "baseline" } }
        + if $parent == null then {} else { parent: $parent } end
        + if $is_control and $p.score.current != null and $p.score.max != null then
            ($p.score.max - $p.score.current | rounded(10)) as $stake
            | ($maxima[$parent] // 0) as $of
            | {
                derived: (
                  { points_at_stake: $stake }
                  + if $of == 0 then {} else { potential_increase_percent: ($stake * 100 / $of | rounded(2)) } end
                )
              }
          else {}
          end
      ),
      raw_data: $raw, raw_data_size: ($raw | utf8bytelength)
    };

(.scores.value | map({ key: (.id | ascii_downcase), value: (.properties.score.max // 0) }) | from_entries) as $maxima
| (.scores.value[] | event(false; {})), (.controls.value[] | event(true; $maxima))
