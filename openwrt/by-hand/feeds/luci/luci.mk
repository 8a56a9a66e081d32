# Where LuCI's pages go.

define Package/$(PKG_NAME)
  SECTION := luci
  TITLE := $(LUCI_TITLE)
  DEPENDS := $(LUCI_DEPENDS)
  PKGARCH := $(LUCI_PKGARCH)
endef

define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	cp -R htdocs/* $(1)/www/
	cp -R root/* $(1)/
endef

define Package/$(PKG_NAME)/postinst
#!/bin/sh
[ -n "$${IPKG_INSTROOT}" ] && exit 0
rm -rf /tmp/luci-indexcache.* /tmp/luci-modulecache
/etc/init.d/rpcd reload
exit 0
endef

include $(INCLUDE_DIR)/package.mk

$(eval $(call BuildPackage,$(PKG_NAME)))
