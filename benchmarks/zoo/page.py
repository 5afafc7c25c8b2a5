def page(r): return ""
def summary(r): return ""
