def page(r): return ""
def summary(r): return f"{len(r.sick)} sick {len(r.healthy)} healthy, {len(r.unjudged)} unjudged, {r.seconds:.0f} s"
